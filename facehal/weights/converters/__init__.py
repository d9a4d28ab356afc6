"""Publishers' weight files of each network, in the one layout that `facehal` uses.

One file for each network: the shapes of its arrays, which the network in `facehal.features` reads
too, and `convert`, from a publisher's file (or our own .npz) to these arrays. Kernels are (height,
width, in, out), matrices (in, out), all float32; colours are RGB. Batch normalisation of a frozen
network is folded into its convolutions. Every converter raises `WeightsError` in one line when a
file is cut off, foreign or hostile.
"""
