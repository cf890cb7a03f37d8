//! Patchbay plugin: file
