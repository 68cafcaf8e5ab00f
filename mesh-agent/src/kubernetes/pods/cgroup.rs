//! What the names of cgroups say: the two drivers of the kubelet, and the
//! container runtimes below.
//!
//! | driver | a pod's cgroup |
//! |---|---|
//! | systemd | `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice`, `-` of the UID as `_` |
//! | cgroupfs | `kubepods/burstable/podUID` |
//!
//! Pods of class Guaranteed stand directly below `kubepods`. Below a parent that
//! the kubelet was given (kind: `kubelet.slice`) systemd's names begin with it:
//! `kubelet-kubepods-besteffort-podUID.slice`.

/// Whether a cgroup of this name holds all pods of a kubelet.
pub fn is_kubepods(name: &str) -> bool {
    matches!(name, "kubepods" | "kubepods.slice") || name.ends_with("-kubepods.slice")
}

/// Whether a cgroup of this name holds the pods of one class.
pub fn is_class(name: &str) -> bool {
    if matches!(name, "burstable" | "besteffort") {
        return true;
    }
    let class = name.strip_suffix(".slice").and_then(|name| name.rsplit_once('-'));
    class.is_some_and(|(parent, class)| {
        is_stem(parent) && matches!(class, "burstable" | "besteffort")
    })
}

/// The UID of the pod whose own cgroup has this name.
pub fn pod_uid(name: &str) -> Option<String> {
    let uid = match name.strip_suffix(".slice") {
        Some(name) => {
            let (parent, uid) = name.rsplit_once("-pod")?;
            let class = parent.strip_suffix("-burstable").or(parent.strip_suffix("-besteffort"));
            is_stem(class.unwrap_or(parent)).then(|| uid.replace('_', "-"))?
        }
        None => name.strip_prefix("pod")?.to_owned(),
    };
    is_uid(&uid).then_some(uid)
}

/// `kubepods`, with what stands before it.
fn is_stem(name: &str) -> bool {
    name == "kubepods" || name.ends_with("-kubepods")
}

/// The API server makes UUIDs; the kubelet makes a hash of the file for a pod
/// that it reads from its disk (a static pod).
fn is_uid(text: &str) -> bool {
    (8..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// Whose a cgroup is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCgroup {
    pub uid: String,
    /// Its id at the container runtime, where the cgroup is a container's.
    pub container: Option<String>,
}

/// The pod that the cgroup of this path is of, or below of.
pub fn pod_of(path: &str) -> Option<PodCgroup> {
    let mut names = path.split('/').filter(|name| !name.is_empty());
    names.find(|name| is_kubepods(name))?;
    let mut here = names.next()?;
    if is_class(here) {
        here = names.next()?;
    }
    let uid = pod_uid(here)?;
    Some(PodCgroup { uid, container: names.next().and_then(container) })
}

/// `cri-containerd-ID.scope`, `crio-ID.scope`, `docker-ID.scope`, or `ID` alone.
fn container(name: &str) -> Option<String> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let id = name.rsplit_once('-').map_or(name, |(_, id)| id);
    let is_id = id.len() >= 12 && id.bytes().all(|b| b.is_ascii_hexdigit());
    is_id.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "8c6b1a3e-1b7f-4a0e-9f0c-0a1b2c3d4e5f";
    const CONTAINER: &str = "4f1b9c0d2e3a4f1b9c0d2e3a4f1b9c0d2e3a4f1b9c0d2e3a4f1b9c0d2e3a4f1b";

    /// `UID`, `UID_` and `ID` stand for those above.
    fn named(text: &str) -> String {
        let underscored = UID.replace('-', "_");
        text.replace("UID_", &underscored).replace("UID", UID).replace("ID", CONTAINER)
    }

    #[test]
    fn pods_of_both_drivers_and_all_classes() {
        for path in [
            // kubeadm, EKS, GKE, AKS: systemd.
            "/kubepods.slice/kubepods-podUID_.slice",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice",
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podUID_.slice",
            // kind.
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podUID_.slice",
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-podUID_.slice",
            // k3s, minikube, older installations: cgroupfs.
            "/kubepods/podUID",
            "/kubepods/burstable/podUID",
            "kubepods/besteffort/podUID",
            // kind of old, and a node inside a container.
            "/kubelet/kubepods/burstable/podUID",
            "/docker/ID/kubelet/kubepods/besteffort/podUID",
        ] {
            let found = pod_of(&named(path));
            assert_eq!(found, Some(PodCgroup { uid: UID.into(), container: None }), "{path}");
        }
    }

    #[test]
    fn containers_of_the_usual_runtimes() {
        for name in [
            "cri-containerd-ID.scope",
            "crio-ID.scope",
            "crio-conmon-ID.scope",
            "docker-ID.scope",
            "ID",
            "crio-ID",
            "cri-containerd-ID.scope/init.scope/deeper",
        ] {
            for pod in ["/kubepods.slice/kubepods-podUID_.slice", "/kubepods/burstable/podUID"] {
                let found = pod_of(&named(&format!("{pod}/{name}"))).unwrap();
                assert_eq!(found.uid, UID);
                assert_eq!(found.container.as_deref(), Some(CONTAINER), "{name}");
            }
        }
        let other = pod_of(&named("/kubepods/podUID/sidecar")).unwrap();
        assert_eq!(other.container, None);
    }

    #[test]
    fn a_static_pods_uid_is_a_hash() {
        let uid = "5c4d6a1b2f3e4d5c6b7a8990a1b2c3d4";
        let path =
            format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice");
        assert_eq!(pod_of(&path).unwrap().uid, uid);
    }

    #[test]
    fn others_are_no_pods() {
        for path in [
            "/",
            "",
            "/kubepods.slice",
            "/kubepods/burstable",
            "/kubepods.slice/kubepods-burstable.slice",
            "/system.slice/kubelet.service",
            "/system.slice/containerd.service/kubepods-podUID_.slice",
            "/podUID",
            "/kubepods/podUID.slice",
            "/kubepods/pods",
            "/kubepods/pod",
            "/kubepods/burstable/burstable/podUID",
            "/kubepods.slice/mykubepods-podUID_.slice",
            "/machine.slice/libpod-ID.scope",
            "/kubepods/pod../../etc",
            "/kubepods/podzzzzzzzzzzzz",
        ] {
            assert_eq!(pod_of(&named(path)), None, "{path}");
        }
    }

    #[test]
    fn names_of_the_levels_above() {
        for name in ["kubepods", "kubepods.slice", "kubelet-kubepods.slice"] {
            assert!(is_kubepods(name), "{name}");
        }
        for name in ["kubepods-burstable.slice", "kubelet-kubepods-besteffort.slice", "burstable"] {
            assert!(is_class(name) && !is_kubepods(name), "{name}");
        }
        for name in
            ["guaranteed", "kubepods-pod.slice", "system.slice", "kubepodsx", "a-burstable.slice"]
        {
            assert!(!is_class(name) && !is_kubepods(name), "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_too_strange(path in "[a-z0-9./_-]{0,80}") {
            let _ = pod_of(&path);
            let _ = pod_of(&format!("/kubepods/{path}"));
        }

        #[test]
        fn both_drivers_say_the_same(uid in "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}") {
            let systemd = format!("kubepods-burstable-pod{}.slice", uid.replace('-', "_"));
            proptest::prop_assert_eq!(pod_uid(&systemd), Some(uid.clone()));
            proptest::prop_assert_eq!(pod_uid(&format!("pod{uid}")), Some(uid));
        }
    }
}
