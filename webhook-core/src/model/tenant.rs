use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whose event or subscription it is: 1 to 64 characters of `[A-Za-z0-9_.-]`.
///
/// An event reaches subscriptions of its own tenant only, and what belongs to one tenant does not exist for
/// another. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(Arc<str>);

/// A text that does not name a tenant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a tenant: expected 1 to 64 characters of A-Z, a-z, 0-9, '_', '.' and '-'")]
pub struct InvalidTenant;

impl Tenant {
    /// The tenant of whoever names none.
    pub const DEFAULT: &'static str = "default";
    /// The tenant that receives the server's own events.
    pub const OPERATIONS: &'static str = "_operations";

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Tenant {
    fn default() -> Self {
        Self(Arc::from(Self::DEFAULT))
    }
}

impl FromStr for Tenant {
    type Err = InvalidTenant;

    fn from_str(text: &str) -> Result<Self, InvalidTenant> {
        let valid = (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
        if valid { Ok(Self(Arc::from(text))) } else { Err(InvalidTenant) }
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Tenant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Tenant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_up_to_64_plain_characters() {
        assert!("_operations".parse::<Tenant>().is_ok());
        assert!("a".repeat(64).parse::<Tenant>().is_ok());
        for bad in ["", "*", "a b", "ä", "a/b", &"a".repeat(65)] {
            assert_eq!(bad.parse::<Tenant>(), Err(InvalidTenant), "{bad}");
        }
    }
}
