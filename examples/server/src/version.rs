//! Which version this is. The revision comes from the build script, which asks git or its environment.

/// The package's version, as in the user agent.
pub(crate) const PACKAGE: &str = env!("CARGO_PKG_VERSION");

/// The version with the revision it was built from, as in `0.1.0 (0123456789ab)`; the version alone where that was
/// not known.
pub(crate) const LONG: &str = env!("WEBHOOK_SERVER_VERSION");
