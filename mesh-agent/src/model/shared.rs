//! Values that many instances have in common, each held once: of 100,000
//! instances there are perhaps 100 places.

use std::{
    collections::{BTreeMap, HashSet},
    hash::Hash,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use super::Locality;

/// What routes select instances by.
pub type Labels = Arc<BTreeMap<String, String>>;

static LOCALITIES: LazyLock<Pool<Locality>> = LazyLock::new(Pool::default);
static LABELS: LazyLock<Pool<BTreeMap<String, String>>> = LazyLock::new(Pool::default);

impl Locality {
    /// The one that all instances at this place share.
    pub fn shared(self) -> Arc<Self> {
        LOCALITIES.share(self)
    }
}

/// The one that all instances with these labels share.
pub fn labels(labels: BTreeMap<String, String>) -> Labels {
    LABELS.share(labels)
}

/// Equal values that are in use somewhere.
struct Pool<T>(Mutex<Known<T>>);

struct Known<T> {
    values: HashSet<Arc<T>>,
    /// When it has grown to this, what nobody uses any more goes.
    sweep_at: usize,
}

/// Fewer aren't worth a look.
const FEW: usize = 64;

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(Mutex::new(Known { values: HashSet::new(), sweep_at: FEW }))
    }
}

impl<T: Eq + Hash> Pool<T> {
    fn share(&self, value: T) -> Arc<T> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = known.values.get(&value) {
            return Arc::clone(value);
        }
        if known.values.len() >= known.sweep_at {
            known.values.retain(|value| Arc::strong_count(value) > 1);
            known.sweep_at = FEW.max(known.values.len() * 2);
        }
        let value = Arc::new(value);
        known.values.insert(Arc::clone(&value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_unused_ones_go() {
        let pool = Pool::default();
        let kept = pool.share("a".to_owned());
        assert!(Arc::ptr_eq(&kept, &pool.share("a".to_owned())));
        assert!(!Arc::ptr_eq(&kept, &pool.share("b".to_owned())));
        for number in 0..10 * FEW {
            pool.share(number.to_string());
        }
        let known = pool.0.lock().unwrap();
        assert!(known.values.len() <= FEW, "{}", known.values.len());
        assert!(known.values.contains(&kept));
    }
}
