//! Patchbay plugin: mp4
