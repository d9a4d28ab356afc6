"""What Keras offers no public interface for: every function says why it is here."""

import keras


def replicas() -> int:
    """Over how many devices TensorFlow splits a batch; 1 on JAX, which sees whole batches."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync
