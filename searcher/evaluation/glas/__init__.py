"""The GlaS challenge: its published table, our rows in it, and the metrics of the DTU poster."""
