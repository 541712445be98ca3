"""The learned peers of DECSC, one network a module, written from their papers and checked against the released code's numbers.

Every network maps (N, B, H, W), nominally in [0, 1], onto the same shape, for any H and W; its initial weights are drawn
from the generator it is given. A module holds the network, its configuration, and the mapping of official state dicts.
"""
