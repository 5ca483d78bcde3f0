//! The real product in a test: TestApp, builders, fault proxy.
