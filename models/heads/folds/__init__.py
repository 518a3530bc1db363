"""Parts to fit on and parts to judge by, and what heads share there.

blocks: Blocks, in_blocks, over_blocks
columns: Basis, Moments, moments_of, scaler_of
fold: Eigenbasis, Fold, Numbers, join, share_sums, whole
routines: add_products, mirror
Within the room: moments
"""
