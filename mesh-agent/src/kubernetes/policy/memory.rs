//! The specs that made sense last. Where a resource is changed to one that
//! makes none, the one before goes on serving: a typing error must not take a
//! limit away.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::object::Object;

/// By the resource's uid. Kept for the next run with the rest of the state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    good: BTreeMap<Arc<str>, Good>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Good {
    pub generation: i64,
    pub spec: Value,
}

/// How a spec was read.
pub struct Read<T> {
    /// Of the spec, or of the last good one.
    pub value: Option<T>,
    /// What is wrong with the spec.
    pub wrong: Option<String>,
}

impl Memory {
    /// Reads the spec of an object; where it can't be, the last good one.
    pub fn read<T>(
        &mut self,
        object: &Object,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Read<T> {
        match read(&object.spec) {
            Ok(value) => {
                self.keep(object);
                Read { value: Some(value), wrong: None }
            }
            Err(wrong) => {
                let good = self.good(object);
                let value = good.and_then(|good| Some((good.generation, read(&good.spec).ok()?)));
                let wrong = match &value {
                    Some((generation, _)) => {
                        format!("{wrong}; generation {generation} goes on serving")
                    }
                    None => wrong,
                };
                Read { value: value.map(|(_, value)| value), wrong: Some(wrong) }
            }
        }
    }

    /// The last good spec of an object.
    pub fn good(&self, object: &Object) -> Option<&Good> {
        self.good.get(&object.uid)
    }

    /// The spec of an object is good.
    pub fn keep(&mut self, object: &Object) {
        if self.good(object).is_none_or(|known| known.spec != object.spec) {
            let good = Good { generation: object.generation, spec: object.spec.clone() };
            self.good.insert(Arc::clone(&object.uid), good);
        }
    }

    /// Forgets all but these.
    pub fn retain<'a>(&mut self, objects: impl Iterator<Item = &'a Object>) {
        let there: BTreeSet<&Arc<str>> = objects.map(|object| &object.uid).collect();
        self.good.retain(|uid, _| there.contains(uid));
    }
}
