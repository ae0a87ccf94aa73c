//! How a recording of inputs writes and reads what has no encoding of its own: signed records and shared manifests.
//!
//! A recording is this node's own file, and only a replay reads it, which carries nothing out: what was verified when it was
//! taken is taken as such again. Nothing that a peer sends is read by this.

/// One signed record.
pub mod one {
    use alloc::vec::Vec;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

    use crate::record::Verified;

    /// Writes the record and its envelope.
    pub fn serialize<R: Serialize, S: Serializer>(record: &Verified<R>, serializer: S) -> Result<S::Ok, S::Error> {
        (&**record, serde_bytes::Bytes::new(record.sealed())).serialize(serializer)
    }

    /// Reads both.
    pub fn deserialize<'de, R: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<Verified<R>, D::Error> {
        let (value, sealed): (R, serde_bytes::ByteBuf) = Deserialize::deserialize(deserializer)?;
        let sealed: Vec<u8> = sealed.into_vec();
        Ok(Verified::recorded(value, sealed))
    }
}

/// Any number of signed records.
pub mod many {
    use alloc::vec::Vec;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

    use crate::record::Verified;

    #[derive(Serialize, Deserialize)]
    #[serde(bound(serialize = "R: Serialize", deserialize = "R: DeserializeOwned"))]
    struct One<R>(#[serde(with = "super::one")] Verified<R>);

    /// Writes them in order.
    pub fn serialize<R: Serialize + Clone, S: Serializer>(records: &[Verified<R>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(records.iter().map(|record| One(record.clone())))
    }

    /// Reads them.
    pub fn deserialize<'de, R: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Verified<R>>, D::Error> {
        let records: Vec<One<R>> = Deserialize::deserialize(deserializer)?;
        Ok(records.into_iter().map(|One(record)| record).collect())
    }
}

/// A manifest that is shared, or why there is none.
pub mod shared {
    use alloc::sync::Arc;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::failure::Failure;
    use crate::function::Function;

    /// Writes the manifest itself.
    pub fn serialize<S: Serializer>(function: &Result<Arc<Function>, Failure>, serializer: S) -> Result<S::Ok, S::Error> {
        function.as_ref().map(|function| &**function).serialize(serializer)
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Result<Arc<Function>, Failure>, D::Error> {
        let function: Result<Function, Failure> = Deserialize::deserialize(deserializer)?;
        Ok(function.map(Arc::new))
    }
}

/// A manifest that is shared, where there is one.
pub mod perhaps {
    use alloc::sync::Arc;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::function::Function;

    /// Writes the manifest itself.
    pub fn serialize<S: Serializer>(function: &Option<Arc<Function>>, serializer: S) -> Result<S::Ok, S::Error> {
        function.as_deref().serialize(serializer)
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<Function>>, D::Error> {
        let function: Option<Function> = Deserialize::deserialize(deserializer)?;
        Ok(function.map(Arc::new))
    }
}
