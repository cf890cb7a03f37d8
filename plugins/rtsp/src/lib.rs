//! Patchbay plugin: rtsp
