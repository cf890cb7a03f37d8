//! Patchbay plugin: demo
