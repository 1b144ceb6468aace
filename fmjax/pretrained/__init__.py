"""Networks that others trained: their architecture here, their weights from a file of yours."""
