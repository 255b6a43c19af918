"""Reading: a dilated gated convolutional net that answers questions from passages, in Chinese and English."""
