//! Nearer instances first: tiers by priority and locality, and the share of
//! the traffic that each gets.
//!
//! The formula is Envoy's ("Priority levels" and "Panic threshold" in its
//! documentation of load balancing), over weights and in fractions instead of
//! whole percents.

use crate::model::{Locality, LocalityMode, LocalityPolicy, Weight};

/// What the place of an instance in its tier rests on.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    pub priority: u16,
    pub locality: &'a Locality,
    pub weight: Weight,
    pub state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Available,
    /// Out because it fails; in a panic it is used all the same.
    Failing,
    /// Out on purpose, never used. It still counts for the size of its tier, so
    /// that the rest isn't burdened with its part.
    Drained,
}

/// One tier; the first is the nearest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tier {
    pub priority: u16,
    /// How many parts of cloud/region/zone/node its instances share with this
    /// node.
    pub near: u8,
    /// Of all picks, 0 to 1.
    pub share: f64,
    /// Sums of weights.
    pub available: u64,
    pub size: u64,
    /// Without the drained ones.
    pub usable: u64,
}

/// Who gets how much.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tiers {
    pub tiers: Vec<Tier>,
    /// By member: the index of its tier.
    pub of: Vec<u16>,
    /// Too few are available anywhere: all are used but the drained ones.
    pub panic: bool,
}

impl Tiers {
    pub fn new(node: &Locality, policy: &LocalityPolicy, members: &[Member<'_>]) -> Self {
        let ranks: Vec<_> = (members.iter())
            .map(|member| {
                let near = match policy.mode {
                    LocalityMode::Off => 0,
                    _ => nearness(node, member.locality),
                };
                (member.priority, std::cmp::Reverse(near))
            })
            .collect();
        let mut order = ranks.clone();
        order.sort_unstable();
        order.dedup();
        let mut tiers: Vec<Tier> = (order.iter())
            .map(|&(priority, std::cmp::Reverse(near))| Tier {
                priority,
                near,
                share: 0.0,
                available: 0,
                size: 0,
                usable: 0,
            })
            .collect();
        let mut of = Vec::with_capacity(members.len());
        for (member, rank) in members.iter().zip(&ranks) {
            let index = order.binary_search(rank).expect("the order holds every rank");
            let weight = u64::from(member.weight.0);
            let tier = &mut tiers[index];
            tier.size += weight;
            tier.usable += if member.state == State::Drained { 0 } else { weight };
            tier.available += if member.state == State::Available { weight } else { 0 };
            of.push(index as u16);
        }
        let panic = share_out(policy, &mut tiers);
        Self { tiers, of, panic }
    }

    /// The part of all picks that a member gets, 0 to 1, by its index.
    pub fn share(&self, index: usize, member: &Member<'_>) -> f64 {
        let tier = &self.tiers[usize::from(self.of[index])];
        let (in_it, of) = match member.state {
            State::Drained => return 0.0,
            State::Failing if !self.panic => return 0.0,
            _ if self.panic => (tier.share, tier.usable),
            _ => (tier.share, tier.available),
        };
        if of == 0 { 0.0 } else { in_it * f64::from(member.weight.0) / of as f64 }
    }

    /// The turns of all members, in proportion to their shares. Where one tier
    /// has everything these are the weights themselves, which makes for short
    /// schedules.
    pub fn turns(&self, members: &[Member<'_>]) -> Vec<u32> {
        /// Parts that everything is divided into otherwise.
        const WHOLE: f64 = 65_536.0;
        let plain = self.panic || self.tiers.iter().filter(|tier| tier.share > 0.0).count() < 2;
        let turns = |(index, member): (usize, &Member<'_>)| match self.share(index, member) {
            share if share <= 0.0 => 0,
            _ if plain => u32::from(member.weight.0),
            share => ((share * WHOLE).round() as u32).max(1),
        };
        members.iter().enumerate().map(turns).collect()
    }
}

/// The longest matching prefix of cloud, region, zone and node. What neither
/// side knows neither matches nor ends it.
pub fn nearness(node: &Locality, instance: &Locality) -> u8 {
    let parts = [
        (&node.cloud, &instance.cloud),
        (&node.region, &instance.region),
        (&node.zone, &instance.zone),
        (&node.node, &instance.node),
    ];
    let matching = parts.iter().take_while(|(node, instance)| node == instance);
    matching.filter(|(node, _)| !node.is_empty()).count() as u8
}

/// Gives each tier its share; tells whether there is a panic.
fn share_out(policy: &LocalityPolicy, tiers: &mut [Tier]) -> bool {
    // Tiers in which nothing has a weight are as if they weren't there.
    let mut real: Vec<&mut Tier> = tiers.iter_mut().filter(|tier| tier.size > 0).collect();
    if policy.mode == LocalityMode::Strict {
        real.truncate(1);
    }
    let healthy = |tier: &Tier| tier.available as f64 / tier.usable as f64;
    let threshold = policy.panic_threshold.share();
    let mut usable = real.iter().filter(|tier| tier.usable > 0).peekable();
    let panic = usable.peek().is_some() && usable.all(|tier| healthy(tier) < threshold);
    if panic {
        let all: u64 = real.iter().map(|tier| tier.usable).sum();
        for tier in real {
            tier.share = tier.usable as f64 / all as f64;
        }
        return true;
    }
    if policy.mode == LocalityMode::Prefer {
        if let Some(first) = real.into_iter().find(|tier| tier.available > 0) {
            first.share = 1.0;
        }
        return false;
    }
    let carries = |tier: &Tier| {
        (policy.overprovisioning.factor() * tier.available as f64 / tier.size as f64).min(1.0)
    };
    // Where all together can't carry everything, each is scaled up.
    let scale = real.iter().map(|tier| carries(tier)).sum::<f64>().min(1.0);
    let mut left = 1.0;
    for tier in real {
        if scale > 0.0 {
            tier.share = (carries(tier) / scale).min(left);
            left -= tier.share;
        }
    }
    // What a rounding error left over is nobody's in particular.
    if let Some(last) = tiers.iter_mut().rfind(|tier| tier.share > 0.0) {
        last.share += left;
    }
    false
}

#[cfg(test)]
#[path = "locality_tests.rs"]
mod tests;
