//! A `MeshPolicy` while it is judged. One that doesn't fit what it is for
//! changes nothing: its last good spec holds in its place.

use std::sync::Arc;

use super::{
    Memory, Object, Ruling, Subjects,
    precedence::{Level, Namespace, Part},
    spec::{Policy, Target, in_words, spec},
};
use crate::{
    config::{PolicyBlock, Problems},
    kubernetes::Key,
    model::{self, ServiceSpec},
};

const INVALID: &str = "Invalid";

pub struct Candidate<'a> {
    pub object: &'a Arc<Object>,
    /// Its spec, or the last good one.
    policy: Option<Policy>,
    /// What is wrong with its spec, where that doesn't hold.
    wrong: Option<String>,
    /// Of targets that it doesn't get.
    rulings: Vec<Ruling>,
}

impl<'a> Candidate<'a> {
    pub fn read(object: &'a Arc<Object>, memory: &Memory) -> Self {
        let mut candidate = Self { object, policy: None, wrong: None, rulings: Vec::new() };
        match spec(&object.spec) {
            Ok(policy) => candidate.policy = Some(policy),
            Err(wrong) => candidate.fall_back(wrong, memory),
        }
        candidate
    }

    fn fall_back(&mut self, wrong: String, memory: &Memory) {
        let good = memory.good(self.object);
        let good = good.and_then(|good| Some((good, spec(&good.spec).ok()?)));
        self.wrong = Some(match &good {
            // What it is for changed, not the policy.
            Some((good, _)) if good.spec == self.object.spec => {
                format!("{wrong}; what can be held of it goes on serving")
            }
            Some((good, _)) => format!("{wrong}; generation {} goes on serving", good.generation),
            None => wrong,
        });
        self.policy = good.map(|(_, policy)| policy);
    }

    /// Takes what it names on this level. `true` where its spec doesn't fit
    /// that: its last good one is to be judged in its place.
    pub fn claim(
        &mut self,
        level: Level,
        namespace: &mut Namespace,
        subjects: &Subjects<'_>,
        file: &PolicyBlock,
        memory: &Memory,
    ) -> bool {
        let Some(policy) = &self.policy else { return false };
        let mut refused = Vec::new();
        if level == Level::Default && policy.targets.is_empty() {
            refused.extend(self.take_default(policy, namespace, file).err());
        }
        for target in policy.targets.iter().filter(|target| target.level() == level) {
            refused.extend(self.take(policy, target, namespace, subjects, file).err());
        }
        let (unfit, refused): (Vec<_>, Vec<_>) =
            refused.into_iter().partition(|ruling| ruling.reason == INVALID);
        self.rulings.extend(refused);
        if !unfit.is_empty() {
            let words: Vec<String> = unfit.into_iter().map(|ruling| ruling.message).collect();
            self.fall_back(words.join("\n"), memory);
            return true;
        }
        false
    }

    fn take_default(
        &self,
        policy: &Policy,
        namespace: &mut Namespace,
        file: &PolicyBlock,
    ) -> Result<(), Ruling> {
        if let Some((older, _)) = &namespace.default {
            return Err(conflict("the namespace's default", older));
        }
        self.judge(|| policy.block.check_default(file), "")?;
        namespace.default = Some((self.object.key.clone(), policy.block.clone()));
        Ok(())
    }

    /// Takes a target, if it is there and free.
    fn take(
        &self,
        policy: &Policy,
        target: &Target,
        namespace: &mut Namespace,
        subjects: &Subjects<'_>,
        file: &PolicyBlock,
    ) -> Result<(), Ruling> {
        let (spec, part, ports) = self.find(target, subjects)?;
        let what = match &target.section_name {
            None => format!("Service `{}`", target.name),
            Some(name) => format!("port `{name}` of Service `{}`", target.name),
        };
        match namespace.own.get(&part) {
            // Named twice by the same policy.
            Some((older, _)) if *older == self.object.key => return Ok(()),
            Some((older, _)) => return Err(conflict(&what, older)),
            None => {}
        }
        let under = namespace.under(part).over(file);
        let fits = || policy.block.check_service(&ports, spec.path, &under);
        self.judge(fits, &format!("for {what}: "))?;
        namespace.own.insert(part, (self.object.key.clone(), policy.block.clone()));
        Ok(())
    }

    /// The last good one was judged when it came: of it, each port keeps what
    /// it can.
    fn judge(&self, fits: impl FnOnce() -> Result<(), Problems>, what: &str) -> Result<(), Ruling> {
        if self.wrong.is_some() {
            return Ok(());
        }
        fits().map_err(|wrong| Ruling::no(INVALID, format!("{what}{}", in_words(&wrong))))
    }

    /// The service, with the part of it and the ports that a target means.
    fn find<'s>(
        &self,
        target: &Target,
        subjects: &'s Subjects<'_>,
    ) -> Result<(&'s ServiceSpec, Part, Vec<model::Port>), Ruling> {
        let missing = |message: String| Ruling::no("TargetNotFound", message);
        let key = Key::new(&self.object.key.namespace, &target.name);
        let (service, place) = subjects.find(&key).ok_or_else(|| {
            missing(format!("there is no Service `{}` in this namespace", target.name))
        })?;
        let place = place.ok_or_else(|| {
            missing(format!(
                "the Service `{}` is no service of the mesh: is its namespace captured?",
                target.name
            ))
        })?;
        let spec = subjects.spec(place);
        let Some(name) = &target.section_name else {
            return Ok((spec, (place, None), spec.ports.clone()));
        };
        let named = service.ports.iter().find(|port| *port.name == **name);
        let named = named.map(|port| (port.port, port.transport)).ok_or_else(|| {
            missing(format!("the Service `{}` has no port named `{name}`", target.name))
        })?;
        let ports = spec.ports.iter();
        let ports = ports.filter(|port| (port.port, port.protocol.transport()) == named);
        Ok((spec, (place, Some(named)), ports.copied().collect()))
    }

    /// To be judged from the start.
    pub fn begin(&mut self) {
        self.rulings.clear();
    }

    /// Its spec is good once it holds for anything.
    pub fn remember(&self, memory: &mut Memory) {
        let targets = self.policy.as_ref().map_or(0, |policy| policy.targets.len().max(1));
        if self.wrong.is_none() && self.rulings.len() < targets {
            memory.keep(self.object);
        }
    }

    /// The rulings of all targets as one.
    pub fn accepted(&self) -> Ruling {
        let targets = self.policy.as_ref().map_or(0, |policy| policy.targets.len());
        let mut words: Vec<&str> = self.wrong.as_deref().into_iter().collect();
        words.extend(self.rulings.iter().map(|ruling| ruling.message.as_str()));
        let reason = match (&self.wrong, self.rulings.first()) {
            (Some(_), _) => INVALID,
            (None, Some(first)) => first.reason,
            (None, None) => {
                return Ruling::yes(
                    "Accepted",
                    match targets {
                        0 => "it is its namespace's default".to_owned(),
                        1 => "it holds for its target".to_owned(),
                        n => format!("it holds for its {n} targets"),
                    },
                );
            }
        };
        if self.wrong.is_none() && self.rulings.len() < targets {
            words.push("it holds for its other targets");
        }
        Ruling::no(reason, words.join("\n"))
    }
}

fn conflict(what: &str, older: &Key) -> Ruling {
    Ruling::no("Conflicted", format!("{what} has an older MeshPolicy, `{}`", older.name))
}
