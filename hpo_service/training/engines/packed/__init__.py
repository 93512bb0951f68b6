"""The packed engine: many LoRA trials in one forward over one frozen base. Mathematics: docs/packing.md."""
