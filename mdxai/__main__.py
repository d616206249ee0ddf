"""`python -m mdxai` is the command `mdxai`."""

from mdxai.cli.main import main

if __name__ == "__main__":
    main()
