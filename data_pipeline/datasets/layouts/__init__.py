"""Layouts in which labs and published data sets lie: each module recognises one and reads it as a `SampleSource`."""
