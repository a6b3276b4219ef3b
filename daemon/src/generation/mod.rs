//! A generation: one bundle's collections. Their names carry the fingerprint, their aliases are the names that readers use.

use astromech_schemas::{Fingerprint, Kind};

/// Real name of the collection of `kind` in the vector space `fingerprint`, for example `images-0a1b2c3d4e5f`.
pub fn collection_name(kind: Kind, fingerprint: &Fingerprint) -> String {
    format!("{}-{}", kind.collection(), fingerprint.short())
}
