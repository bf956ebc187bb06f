"""The pages: what people see of volact in a browser, rendered by the server (STYLE section 8).

- Every page works without JavaScript, and its JSON twin calls the same method of the role.
- Everything that is shown is escaped, and nothing but the service's own files is loaded (T31).
- `volact.cli` alone imports this package; a role gets its pages as a value.
"""
