use std::process::Command;

use serde_json::Value;

use super::*;

/// A folder that goes away.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mesh-image-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn image(folder: &Path, archive: &str) -> (String, PathBuf) {
    let (binary, output) = (folder.join("binary"), folder.join(archive));
    fs::write(&binary, b"\x7fELF and so on").unwrap();
    let name = "registry.example/mesh-agent:1.2.3";
    let digest = write(&config::AGENT, &binary, name, &output).unwrap();
    (digest, output)
}

#[test]
fn the_same_binary_makes_the_same_archive() {
    let scratch = Scratch::new("same");
    let (first, one) = image(&scratch.0, "one.tar");
    let (second, two) = image(&scratch.0, "two.tar");
    assert_eq!(first, second);
    assert!(first.starts_with("sha256:") && first.len() == 71, "{first}");
    assert_eq!(fs::read(one).unwrap(), fs::read(two).unwrap());
}

#[test]
fn each_reference_leads_to_a_blob_of_that_digest_and_size() {
    let scratch = Scratch::new("blobs");
    let (digest, archive) = image(&scratch.0, "image.tar");
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(&archive).arg("-C").arg(&scratch.0);
    process::run(&mut tar).unwrap();
    let read = |path: &str| fs::read(scratch.0.join(path)).unwrap();
    let json = |path: &str| -> Value { serde_json::from_slice(&read(path)).unwrap() };
    let follow = |descriptor: &Value| {
        let sum = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let path = format!("blobs/sha256/{sum}");
        let content = read(&path);
        assert_eq!(descriptor["size"], content.len());
        assert_eq!(sha256(&content).unwrap(), sum);
        path
    };
    assert_eq!(json("oci-layout")["imageLayoutVersion"], "1.0.0");
    let entry = &json("index.json")["manifests"][0];
    assert_eq!(entry["digest"], digest);
    assert_eq!(
        entry["annotations"]["io.containerd.image.name"],
        "registry.example/mesh-agent:1.2.3"
    );
    assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], "1.2.3");
    let manifest = json(&follow(entry));
    let config = json(&follow(&manifest["config"]));
    assert_eq!(config["config"]["Entrypoint"][0], "/usr/bin/mesh-agent");
    assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
    let layer = follow(&manifest["layers"][0]);
    let mut list = Command::new("tar");
    list.args(["-tvf", &layer]).current_dir(&scratch.0).env("TZ", "UTC");
    let listed = process::output(&mut list).unwrap();
    let last = listed.lines().last().unwrap();
    assert!(last.starts_with("-rwxr-xr-x 0/0") && last.ends_with("usr/bin/mesh-agent"), "{last}");
    assert!(last.contains("1970-01-01"), "{last}");
    assert_eq!(listed.lines().filter(|line| line.starts_with('-')).count(), 1, "{listed}");
}
