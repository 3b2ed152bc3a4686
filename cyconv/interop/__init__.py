"""Neighbours of cyconv, a module each. They import its public face, and nothing imports them.

    autograd    conv and conv_transpose, differentiated as often as asked
    mygrad      conv, as an operation of its graph
    dask        conv and its gradients, of arrays in chunks (the integers are in chunks)
    onnx        Conv, ConvTranspose and Col2Im for the reference evaluator
    cs231n      the course's fast layers, and the im2col of its tutorials

Each but the last needs the package of its name, which an extra of the same name brings along.
"""
