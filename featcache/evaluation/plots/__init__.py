"""Pictures as PNG files: the only home of matplotlib, without its global state.

Plain data in, one PNG out, whole or not at all. Colours are those of Okabe and Ito (2008), which
colour-blind people can tell apart, and nothing is said by colour alone.
"""
