//! Label and field selectors.

use serde_json::Value;

use super::failure::Failure;

/// What a list or a watch is limited to.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    labels: Vec<(String, Term)>,
    fields: Vec<(String, Term)>,
}

#[derive(Clone, Debug)]
enum Term {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
}

/// Those that every server has for some resource that the mesh asks for.
const FIELDS: [&str; 5] =
    ["metadata.name", "metadata.namespace", "spec.nodeName", "status.phase", "spec.type"];

impl Selector {
    /// As in the parameters `labelSelector` and `fieldSelector`.
    pub fn parse(labels: &str, fields: &str) -> Result<Self, Failure> {
        let labels = terms(labels)?;
        let fields = terms(fields)?;
        if let Some((field, _)) = fields.iter().find(|(field, _)| !FIELDS.contains(&&**field)) {
            return Err(Failure::bad_request(format!("field label not supported: {field}")));
        }
        Ok(Self { labels, fields })
    }

    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let label = self.labels.iter().all(|(key, term)| term.holds(labels[key.as_str()].as_str()));
        let field = |(path, term): &(String, Term)| {
            let value = path.split('.').fold(object, |value, key| &value[key]);
            // A field that isn't there is empty, not missing.
            term.holds(Some(value.as_str().unwrap_or("")))
        };
        label && self.fields.iter().all(field)
    }
}

impl Term {
    fn holds(&self, value: Option<&str>) -> bool {
        let among =
            |list: &[String]| value.is_some_and(|value| list.iter().any(|one| one == value));
        match self {
            Self::In(list) => among(list),
            Self::NotIn(list) => !among(list),
            Self::Exists => value.is_some(),
            Self::Missing => value.is_none(),
        }
    }
}

fn terms(text: &str) -> Result<Vec<(String, Term)>, Failure> {
    split(text).into_iter().filter(|part| !part.is_empty()).map(term).collect()
}

/// At commas, except those between parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    text.split(move |letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    })
    .map(str::trim)
    .collect()
}

fn term(text: &str) -> Result<(String, Term), Failure> {
    let one = |value: &str| vec![value.trim().to_owned()];
    let (key, term) = if let Some((key, value)) = text.split_once("!=") {
        (key, Term::NotIn(one(value)))
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (key, Term::In(one(value)))
    } else if let Some((key, values)) = text.split_once(" notin ") {
        (key, Term::NotIn(list(values)?))
    } else if let Some((key, values)) = text.split_once(" in ") {
        (key, Term::In(list(values)?))
    } else if let Some(key) = text.strip_prefix('!') {
        (key, Term::Missing)
    } else {
        (text, Term::Exists)
    };
    Ok((key.trim().to_owned(), term))
}

fn list(text: &str) -> Result<Vec<String>, Failure> {
    let inner = text.trim().strip_prefix('(').and_then(|text| text.strip_suffix(')'));
    let inner = inner.ok_or_else(|| {
        Failure::bad_request(format!("unable to parse requirement: found '{text}', expected: '('"))
    })?;
    Ok(inner.split(',').map(|value| value.trim().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_and_fields() {
        let object = json!({
            "metadata": {"name": "a", "labels": {"app": "web", "tier": "front"}},
            "spec": {"nodeName": "node-1"},
        });
        let cases = [
            ("", "", true),
            ("app=web", "spec.nodeName=node-1", true),
            ("app==web,tier!=back", "", true),
            ("app in (db, web),tier", "metadata.name=a", true),
            ("app notin (db,web)", "", false),
            ("!headless", "", true),
            ("!app", "", false),
            ("missing notin (x)", "", true),
            ("missing!=x", "", true),
            ("missing", "", false),
            ("", "spec.nodeName=", false),
            ("", "metadata.name!=a", false),
        ];
        for (labels, fields, expected) in cases {
            let selector = Selector::parse(labels, fields).expect("legal");
            assert_eq!(selector.matches(&object), expected, "{labels} {fields}");
        }
        assert!(Selector::parse("", "spec.hostname=x").is_err());
        assert!(Selector::parse("a in b", "").is_err());
    }
}
