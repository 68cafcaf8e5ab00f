//! Enums of the file that are the model's.

/// Both ways: the model's default is the file's.
macro_rules! same {
    ($($name:ident = $model:ident { $($variant:ident)* })*) => { $(
        impl From<$name> for model::$model {
            fn from(raw: $name) -> Self {
                match raw { $($name::$variant => Self::$variant,)* }
            }
        }

        impl From<model::$model> for $name {
            fn from(model: model::$model) -> Self {
                match model { $(model::$model::$variant => Self::$variant,)* }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                model::$model::default().into()
            }
        }
    )* };
}

pub(super) use same;
