"""The licensed machine: the library that a publisher embeds, and the commands that an administrator runs."""
