"""Sweeping: which head, which setting and which layer, chosen and judged honestly.

features --align--> rows --parts--> tasks --joblib--> scores --choose--> head, refitted and judged
"""
