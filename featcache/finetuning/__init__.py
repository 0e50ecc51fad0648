"""Fine-tuning: back into the network, starting from what is cached.

features + head (start)  ->  which layers learn (freezing), where to cut and what is fed (cut)
    -> the network and its head as Keras models (graphs)
    -> learned epoch by epoch (featcache.training)
    -> a backbone, a head, and both as one model (outcome)
"""
