"""The ways to compute a convolution, one module each.

Each module has the same functions in the same order: `tiles`, what a plan prepares for it once,
and `forward`, `input_grad`, `weight_grad`, which compute on C-contiguous arrays of the plan's dtype
with three spatial axes, and fill the array that they are given last; then `outline`, which says
what a pass goes through and what memory it takes, for `cyconv.describe`. One that can compute
faster with fixed weights also has `prepare`, which makes of them what `forward` and `input_grad`
then take as one more argument.
"""
