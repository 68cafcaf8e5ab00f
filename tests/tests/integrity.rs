//! Not one byte is lost, reordered or invented. `cargo xtask stress` does the
//! same for as long as you like.

use std::time::Duration;

use anyhow::Result;
use mesh_tests::{World, integrity::Stress};

#[test]
fn random_bytes_arrive_as_they_were_sent() -> Result<()> {
    let mut stress = Stress::set_up(World::new("integrity")?)?;
    let totals = stress.run(Duration::from_secs(2), true, 1)?;
    assert!(totals.bytes > 0, "{totals:?}");
    Ok(())
}
