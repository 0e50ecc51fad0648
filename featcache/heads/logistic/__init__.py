"""Logistic regression for many strengths of penalty and many folds at once.

    Blocks     a matrix in memory or on disk, read block by block by all threads
    Table      its rows' classes, and the weights and moments that every fold gives them
    Losses     loss and gradient of every problem, a (C, fold), in one reading
    Curvature  an approximate Hessian: it makes the steps of the right size
    Walk       one problem's way downhill, by L-BFGS
    minimise   all walks, side by side
    solve_path -> Solution, one for each fold and C

`estimators` has scikit-learn's interface to it.
"""
