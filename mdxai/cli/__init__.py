"""The command line: each module holds a family of commands, and `arguments` what they take."""
