"""
C{python -m p2ptwist.cli} is the command C{p2ptwist}.
"""

from p2ptwist.cli.main import main

if __name__ == "__main__":
    main()
