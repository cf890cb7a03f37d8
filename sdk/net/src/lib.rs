//! URLs with secrets, HTTP authentication, a lenient HTTP client
