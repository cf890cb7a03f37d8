//! Patchbay: any camera protocol in, any player protocol out
