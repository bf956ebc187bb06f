#Requires -RunAsAdministrator
#Requires -Version 5.1
<#
.SYNOPSIS
Lets VAMT read this Windows machine's licence states over WinRM (HTTPS, port 5986).

.DESCRIPTION
Starts WinRM with a listener for HTTPS, refuses basic authentication and messages without encryption, opens port 5986
for the given addresses only, and lets an account in. It may be run again. volact was never tried on a real Windows,
and this script neither: read it before you run it.

.PARAMETER From
Addresses or networks that VAMT asks from, such as 192.0.2.7 or 192.0.2.0/24.

.PARAMETER Account
The account that VAMT uses, DOMAIN\name or name. It needs the rights "Enable Account" and "Remote Enable" on the WMI
namespace root\cimv2 (wmimgmt.msc, Properties, Security), or to be an administrator.

.PARAMETER Thumbprint
Of a certificate in Cert:\LocalMachine\My for this machine's name, from a CA that VAMT is told to trust.
#>
param(
    [Parameter(Mandatory)] [string[]] $From,
    [Parameter(Mandatory)] [string] $Account,
    [Parameter(Mandatory)] [ValidatePattern('^[0-9A-Fa-f]{40}$')] [string] $Thumbprint
)
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$certificate = Get-Item -Path "Cert:\LocalMachine\My\$Thumbprint"
if (-not $certificate.HasPrivateKey) { throw "The certificate $Thumbprint has no private key here." }
if ($certificate.NotAfter -lt (Get-Date)) { throw "The certificate $Thumbprint is past its end." }

Set-Service -Name WinRM -StartupType Automatic
Start-Service -Name WinRM

$listener = Get-ChildItem -Path WSMan:\localhost\Listener | Where-Object { $_.Keys -contains 'Transport=HTTPS' }
if ($listener) { $listener | Remove-Item -Recurse -Force }
New-Item -Path WSMan:\localhost\Listener -Transport HTTPS -Address * -CertificateThumbPrint $Thumbprint -Force | Out-Null
Set-Item -Path WSMan:\localhost\Service\Auth\Basic -Value $false
Set-Item -Path WSMan:\localhost\Service\AllowUnencrypted -Value $false

$rule = 'volact-vamt-winrm-https'
Get-NetFirewallRule -Name $rule -ErrorAction SilentlyContinue | Remove-NetFirewallRule
New-NetFirewallRule -Name $rule -DisplayName 'volact VAMT (WinRM over HTTPS)' -Direction Inbound -Action Allow `
    -Protocol TCP -LocalPort 5986 -RemoteAddress $From | Out-Null

# S-1-5-32-580 is "Remote Management Users", whatever the language calls it.
$group = Get-LocalGroup -SID 'S-1-5-32-580'
try { Add-LocalGroupMember -Group $group -Member $Account }
catch [Microsoft.PowerShell.Commands.MemberExistsException] { Write-Verbose "$Account is a member already." }

Write-Output "Account:  $Account (member of $($group.Name); rights on root\cimv2 are set by hand)"
Write-Output "Service:  WinRM, HTTPS, certificate $Thumbprint"
Write-Output "Firewall: TCP port 5986 from $($From -join ', ')"
