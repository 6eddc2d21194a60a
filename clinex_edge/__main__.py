"""python -m clinex_edge"""

from clinex_edge.cli.main import main

main()
