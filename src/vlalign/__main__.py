"""`python -m vlalign`"""

from vlalign.cli import main

main()
