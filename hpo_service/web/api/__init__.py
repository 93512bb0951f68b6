"""`/v1`, noun by noun: each handler asks one use case and answers with a document of `presentation`."""
