"""The stations of the graph, a file each."""
