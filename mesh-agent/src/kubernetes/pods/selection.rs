//! Which pods are captured: what their owners asked for, by labels of the
//! namespace and of the pod, and what can't be.

use std::{collections::BTreeMap, fmt};

use crate::kubernetes::{CAPTURE_LABEL, Pod};

/// Why a pod is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCaptured {
    /// It shares the node's network: its sockets are the node's.
    HostNetwork,
    /// It is the agent's.
    Agent,
    Finished,
    /// By its annotation.
    Annotation,
    /// By its label.
    Label,
    /// Nobody asked for it.
    Unlabelled,
}

impl fmt::Display for NotCaptured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostNetwork => "it uses the host's network, which is never captured",
            Self::Agent => "it is the agent's own pod, which is never captured",
            Self::Finished => "it has finished",
            Self::Annotation => "its annotation mesh.dev/capture is \"false\"",
            Self::Label => "its label mesh.dev/capture is \"false\"",
            Self::Unlabelled => {
                "neither it nor its namespace has the label mesh.dev/capture: \"true\""
            }
        })
    }
}

/// What labels, or annotations, say: yes, no, or nothing.
fn wants(labels: &BTreeMap<String, String>) -> Option<bool> {
    match labels.get(CAPTURE_LABEL)?.as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Whether a pod is captured; why not. `namespace` says whether its namespace
/// has the label, `agent` is the UID that
/// the cgroup of the agent's own pod has, where it is in one.
pub fn is_captured(pod: &Pod, namespace: bool, agent: Option<&str>) -> Result<(), NotCaptured> {
    if pod.host_network {
        return Err(NotCaptured::HostNetwork);
    }
    if agent == Some(pod.cgroup_uid()) {
        return Err(NotCaptured::Agent);
    }
    if pod.finished {
        return Err(NotCaptured::Finished);
    }
    if wants(&pod.annotations) == Some(false) {
        return Err(NotCaptured::Annotation);
    }
    match wants(&pod.labels) {
        Some(true) => Ok(()),
        Some(false) => Err(NotCaptured::Label),
        None if namespace => Ok(()),
        None => Err(NotCaptured::Unlabelled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(label: &str, annotation: &str) -> Pod {
        let pairs = |value: &str| match value {
            "" => BTreeMap::new(),
            value => BTreeMap::from([(CAPTURE_LABEL.to_owned(), value.to_owned())]),
        };
        Pod {
            uid: "uid-1".into(),
            labels: pairs(label),
            annotations: pairs(annotation),
            ..Pod::default()
        }
    }

    #[test]
    fn labels_and_the_annotation() {
        use NotCaptured::{Annotation, Label, Unlabelled};
        for (label, annotation, without, with) in [
            ("", "", Err(Unlabelled), Ok(())),
            ("true", "", Ok(()), Ok(())),
            ("false", "", Err(Label), Err(Label)),
            // A value that means nothing says nothing.
            ("yes", "", Err(Unlabelled), Ok(())),
            ("", "false", Err(Annotation), Err(Annotation)),
            ("true", "false", Err(Annotation), Err(Annotation)),
            // Annotations only opt out.
            ("", "true", Err(Unlabelled), Ok(())),
            ("false", "true", Err(Label), Err(Label)),
        ] {
            let pod = pod(label, annotation);
            assert_eq!(is_captured(&pod, false, None), without, "{label:?} {annotation:?}");
            assert_eq!(is_captured(&pod, true, None), with, "{label:?} {annotation:?} labelled");
        }
    }

    #[test]
    fn some_are_never_captured() {
        let wanted = pod("true", "");
        let host = Pod { host_network: true, ..wanted.clone() };
        assert_eq!(is_captured(&host, true, None), Err(NotCaptured::HostNetwork));
        let finished = Pod { finished: true, ..wanted.clone() };
        assert_eq!(is_captured(&finished, true, None), Err(NotCaptured::Finished));
        assert_eq!(is_captured(&wanted, true, Some("uid-1")), Err(NotCaptured::Agent));
        assert_eq!(is_captured(&wanted, true, Some("uid-2")), Ok(()));
    }
}
