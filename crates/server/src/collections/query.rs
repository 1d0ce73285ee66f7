//! Queries: by vectors, by points, by the results of other queries.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};
use uuid::Uuid;
use wenyi::store::Conditions;
use wenyi::store::vector_store::{
    Distance, NamedVector, Point, PointId, ScoredPoint, SearchRequest, Space, SpaceQuery,
    SqliteStore, VectorStore,
};

use super::Collections;
use super::listing::{OrderBy, ids, values_at};
use super::score::{self, Fusion};
use crate::problem::Problem;

/// What is sought.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) what: What,
    /// Queries whose results are fused, or among which is sought.
    pub(crate) prefetch: Vec<Query>,
    /// The space.
    pub(crate) using: String,
    pub(crate) filter: Option<Conditions>,
    /// In the direction of the distance: least score, or greatest distance.
    pub(crate) score_threshold: Option<f32>,
    pub(crate) limit: usize,
    pub(crate) offset: usize,
    /// Where the vectors of ids are taken from, if not here.
    pub(crate) lookup: Option<Lookup>,
}

#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) collection: String,
    pub(crate) vector: Option<String>,
}

#[derive(Debug)]
pub(crate) enum What {
    /// Points in the order of their ids.
    All,
    Nearest(Input),
    /// Close points that differ.
    Mmr {
        nearest: Input,
        /// 1 for the closest, 0 for the most different.
        lambda: f32,
        candidates: Option<usize>,
    },
    /// Close to some, far from others.
    Recommend {
        positive: Vec<Input>,
        negative: Vec<Input>,
        strategy: Strategy,
    },
    /// Close to the target, on the positive side of each pair first.
    Discover {
        target: Input,
        context: Vec<(Input, Input)>,
    },
    /// On the positive side of each pair.
    Context(Vec<(Input, Input)>),
    OrderBy(OrderBy),
    Fuse(Fusion),
    /// Any.
    Sample,
}

/// A vector, or the point that has it.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Vector(NamedVector),
    Id(PointId),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Strategy {
    #[default]
    AverageVector,
    BestScore,
    SumScores,
}

/// A point that was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) point: Point,
    /// As clients see it: distances are smaller for closer points.
    pub(crate) score: f32,
    pub(crate) order_value: Option<Value>,
}

/// Points that have one value.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: Value,
    pub(crate) hits: Vec<Found>,
}

impl Collections {
    /// Answers a query.
    pub(crate) fn query(&self, name: &str, query: &Query) -> Result<Vec<Found>, Problem> {
        let store = self.collection(name)?;
        Asked {
            collections: self,
            name,
            store: &store,
        }
        .answer(query)
    }

    /// The results of a query by their values at a key, at most `size` of each value.
    pub(crate) fn query_groups(
        &self,
        name: &str,
        mut query: Query,
        key: &str,
        size: usize,
    ) -> Result<Vec<Group>, Problem> {
        let limit = std::mem::replace(&mut query.limit, usize::MAX);
        let everything = usize::try_from(self.count(name, None)?).unwrap_or(usize::MAX);
        raise_limits(&mut query.prefetch, everything);
        query.limit = everything;
        let mut groups: Vec<Group> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for found in self.query(name, &query)? {
            let values: Vec<Value> = (values_at(&found.point.payload, key).into_iter())
                .cloned()
                .collect();
            let is_group = |value: &Value| value.is_string() || value.is_i64() || value.is_u64();
            if !values.iter().all(is_group) {
                continue;
            }
            let mut seen = HashSet::new();
            for value in values {
                let written = value.to_string();
                if !seen.insert(written.clone()) {
                    continue;
                }
                let place = *places.entry(written).or_insert_with(|| {
                    let hits = Vec::new();
                    groups.push(Group { id: value, hits });
                    groups.len() - 1
                });
                if groups[place].hits.len() < size {
                    groups[place].hits.push(found.clone());
                }
            }
        }
        groups.truncate(limit);
        Ok(groups)
    }
}

/// Lets every prefetch find as much as there is: groups need more than single points.
fn raise_limits(queries: &mut [Query], limit: usize) {
    for query in queries {
        query.limit = query.limit.max(limit);
        raise_limits(&mut query.prefetch, limit);
    }
}

/// A collection that is asked.
struct Asked<'a> {
    collections: &'a Collections,
    name: &'a str,
    store: &'a SqliteStore,
}

/// Scores of the store, which are greater for closer points.
type Scored = Vec<ScoredPoint>;

impl Asked<'_> {
    fn answer(&self, query: &Query) -> Result<Vec<Found>, Problem> {
        if let What::OrderBy(order) = &query.what {
            return self.ordered(query, order);
        }
        let scored = self.scored(query)?;
        let sign = self.sign(query);
        let found = scored.into_iter().map(|scored| Found {
            // Adding zero turns -0 into 0.
            score: sign * scored.score + 0.0,
            point: scored.point,
            order_value: None,
        });
        Ok(found.collect())
    }

    /// -1 where clients see distances.
    fn sign(&self, query: &Query) -> f32 {
        let is_distance = match &query.what {
            What::Nearest(_) | What::Mmr { .. } => true,
            What::Recommend { strategy, .. } => *strategy == Strategy::AverageVector,
            _ => false,
        };
        match self.store.spaces().get(&query.using) {
            Some(Space::Dense {
                distance: Distance::Euclidean | Distance::Manhattan,
                ..
            }) if is_distance => -1.0,
            _ => 1.0,
        }
    }

    fn ordered(&self, query: &Query, order: &OrderBy) -> Result<Vec<Found>, Problem> {
        let filter = match self.within(query)? {
            Some(ids) => Some(also(
                query.filter.as_ref(),
                &json!({"must": [{"has_id": ids}]}),
            )?),
            None => query.filter.clone(),
        };
        let limit = query.limit.saturating_add(query.offset);
        let page = (self.collections).ordered(self.name, order, filter.as_ref(), limit)?;
        let found = page
            .into_iter()
            .skip(query.offset)
            .map(|(point, value)| Found {
                point,
                score: 1.0,
                order_value: Some(value),
            });
        Ok(found.collect())
    }

    fn scored(&self, query: &Query) -> Result<Scored, Problem> {
        if let What::Fuse(fusion) = &query.what {
            return self.fused(query, fusion);
        }
        let within = self.within(query)?;
        let within = within.as_deref();
        match &query.what {
            What::All | What::OrderBy(_) => self.all(query, within),
            What::Sample => self.sample(query, within),
            What::Nearest(input) => {
                let mentioned = self.filter_for(query, [input])?;
                let vector = self.vector(query, input)?;
                self.nearest(query, &vector, mentioned, within, query.limit, query.offset)
            }
            What::Mmr {
                nearest,
                lambda,
                candidates,
            } => {
                let filter = self.filter_for(query, [nearest])?;
                let vector = self.vector(query, nearest)?;
                let fetched = candidates.unwrap_or(query.limit);
                let found = self.nearest(query, &vector, filter, within, fetched, 0)?;
                self.diverse(query, &vector, found, *lambda)
            }
            What::Recommend {
                positive,
                negative,
                strategy,
            } => self.recommended(query, positive, negative, *strategy, within),
            What::Discover { target, context } => {
                let mut examples = vec![target];
                examples.extend(context.iter().flat_map(|(a, b)| [a, b]));
                self.combined(query, &examples, &score::discover, within)
            }
            What::Context(context) => {
                let examples: Vec<_> = context.iter().flat_map(|(a, b)| [a, b]).collect();
                self.combined(query, &examples, &score::context, within)
            }
            What::Fuse(_) => Ok(Scored::new()),
        }
    }

    /// The ids that the prefetches found, each once; none if there are no prefetches.
    fn within(&self, query: &Query) -> Result<Option<Vec<PointId>>, Problem> {
        if query.prefetch.is_empty() {
            return Ok(None);
        }
        let mut seen = HashSet::new();
        let mut all = Vec::new();
        for prefetch in &query.prefetch {
            for found in self.answer(prefetch)? {
                if seen.insert(found.point.id.clone()) {
                    all.push(found.point.id);
                }
            }
        }
        Ok(Some(all))
    }

    fn fused(&self, query: &Query, fusion: &Fusion) -> Result<Scored, Problem> {
        if query.prefetch.is_empty() {
            return Err(Problem::field(
                "query",
                "fuses the results of `prefetch`, which is missing",
            ));
        }
        let sources = query.prefetch.iter().map(|prefetch| self.scored(prefetch));
        let sources = sources.collect::<Result<Vec<_>, _>>()?;
        let mut fused = fusion.fuse(sources)?;
        if let Some(filter) = &query.filter {
            fused.retain(|found| {
                let payload = found.point.payload.clone();
                filter.matches(&[found.point.id.to_json()], &payload.into())
            });
        }
        if let Some(least) = query.score_threshold {
            fused.retain(|found| found.score >= least);
        }
        Ok(fused
            .into_iter()
            .skip(query.offset)
            .take(query.limit)
            .collect())
    }

    fn all(&self, query: &Query, within: Option<&[PointId]>) -> Result<Scored, Problem> {
        let wanted = query.limit.saturating_add(query.offset);
        let mut ids = self.listed(query, within)?;
        ids.sort();
        ids.truncate(wanted);
        self.points(ids.get(query.offset..).unwrap_or_default(), 1.0)
    }

    fn sample(&self, query: &Query, within: Option<&[PointId]>) -> Result<Scored, Problem> {
        let ids = self.listed(query, within)?;
        let mut keyed: Vec<(Uuid, PointId)> =
            (ids.into_iter()).map(|id| (Uuid::new_v4(), id)).collect();
        keyed.sort();
        let ids: Vec<PointId> = (keyed.into_iter().map(|(_, id)| id))
            .take(query.limit)
            .collect();
        self.points(&ids, 1.0)
    }

    fn listed(&self, query: &Query, within: Option<&[PointId]>) -> Result<Vec<PointId>, Problem> {
        let mut all = ids(self.store, query.filter.as_ref())?;
        if let Some(within) = within {
            let within: HashSet<&PointId> = within.iter().collect();
            all.retain(|id| within.contains(id));
        }
        Ok(all)
    }

    fn points(&self, ids: &[PointId], score: f32) -> Result<Scored, Problem> {
        let points = self.store.get_by_ids(ids);
        let points = points.map_err(|error| Problem::of_store(&error))?;
        let scored = points.into_iter().map(|point| ScoredPoint { score, point });
        Ok(scored.collect())
    }

    fn nearest(
        &self,
        query: &Query,
        vector: &NamedVector,
        filter: Option<Conditions>,
        within: Option<&[PointId]>,
        top_k: usize,
        offset: usize,
    ) -> Result<Scored, Problem> {
        let request = SearchRequest {
            top_k,
            offset,
            filter,
            score_threshold: query.score_threshold.map(|least| self.sign(query) * least),
            with_vector: false,
        };
        let sought = SpaceQuery {
            examples: std::slice::from_ref(vector),
            combine: None,
            within,
        };
        let found = self.store.search_space(&query.using, sought, &request);
        found.map_err(|error| Problem::of_store(&error))
    }

    /// Those of `found` that are close and differ.
    fn diverse(
        &self,
        query: &Query,
        vector: &NamedVector,
        found: Scored,
        lambda: f32,
    ) -> Result<Scored, Problem> {
        let ids: Vec<PointId> = found.iter().map(|found| found.point.id.clone()).collect();
        let vectors = self.store.vectors_of(&ids);
        let vectors = vectors.map_err(|error| Problem::of_store(&error))?;
        let mut kept = Vec::new();
        let mut of_kept = Vec::new();
        for (found, mut vectors) in found.into_iter().zip(vectors) {
            // It may have been changed since.
            if let Some(vector) = vectors.remove(&query.using) {
                kept.push(Some(found));
                of_kept.push(vector);
            }
        }
        let distance = self.distance(query);
        let wanted = query.limit.saturating_add(query.offset);
        let chosen = score::diverse(distance, vector, &of_kept, wanted, lambda);
        let chosen = chosen.into_iter().filter_map(|place| kept[place].take());
        Ok(chosen.skip(query.offset).collect())
    }

    fn recommended(
        &self,
        query: &Query,
        positive: &[Input],
        negative: &[Input],
        strategy: Strategy,
        within: Option<&[PointId]>,
    ) -> Result<Scored, Problem> {
        let examples: Vec<&Input> = positive.iter().chain(negative).collect();
        if strategy == Strategy::AverageVector {
            if positive.is_empty() {
                return Err(Problem::field(
                    "positive",
                    "is empty, expected at least one example",
                ));
            }
            let filter = self.filter_for(query, examples.iter().copied())?;
            let vectors = self.vectors(query, &examples)?;
            let (positive, negative) = vectors.split_at(positive.len());
            let vector = score::average(self.distance(query), positive, negative)
                .map_err(|error| Problem::of_store(&error))?;
            return self.nearest(query, &vector, filter, within, query.limit, query.offset);
        }
        if examples.is_empty() {
            return Err(Problem::field(
                "recommend",
                "has no examples, neither positive nor negative",
            ));
        }
        let num_positive = positive.len();
        let combine = |scores: &[f32]| match strategy {
            Strategy::BestScore => score::best(scores, num_positive),
            _ => score::sum(scores, num_positive),
        };
        self.combined(query, &examples, &combine, within)
    }

    /// Points by what `combine` makes of their closeness to the examples.
    fn combined(
        &self,
        query: &Query,
        examples: &[&Input],
        combine: &dyn Fn(&[f32]) -> f32,
        within: Option<&[PointId]>,
    ) -> Result<Scored, Problem> {
        let filter = self.filter_for(query, examples.iter().copied())?;
        let vectors = self.vectors(query, examples)?;
        let is_squared = self.distance(query) == Some(Distance::Euclidean);
        // Within such a score Qdrant counts the square of the length.
        let squared = |scores: &[f32]| {
            let squares: Vec<f32> = scores.iter().map(|score| -score * score).collect();
            combine(&squares)
        };
        let request = SearchRequest {
            top_k: query.limit,
            offset: query.offset,
            filter,
            score_threshold: query.score_threshold,
            with_vector: false,
        };
        let sought = SpaceQuery {
            examples: &vectors,
            combine: Some(if is_squared { &squared } else { combine }),
            within,
        };
        let found = self.store.search_space(&query.using, sought, &request);
        found.map_err(|error| Problem::of_store(&error))
    }

    /// None for sparse spaces and those that are not there.
    fn distance(&self, query: &Query) -> Option<Distance> {
        match self.store.spaces().get(&query.using) {
            Some(Space::Dense { distance, .. }) => Some(*distance),
            _ => None,
        }
    }

    /// The query's filter, without the points that it mentions.
    fn filter_for<'b>(
        &self,
        query: &Query,
        inputs: impl IntoIterator<Item = &'b Input>,
    ) -> Result<Option<Conditions>, Problem> {
        let mut mentioned = Vec::new();
        if query
            .lookup
            .as_ref()
            .is_none_or(|lookup| lookup.collection == self.name)
        {
            for input in inputs {
                if let Input::Id(id) = input {
                    mentioned.push(id);
                }
            }
        }
        if mentioned.is_empty() {
            return Ok(query.filter.clone());
        }
        let without = json!({"must_not": [{"has_id": mentioned}]});
        also(query.filter.as_ref(), &without).map(Some)
    }

    fn vectors(&self, query: &Query, inputs: &[&Input]) -> Result<Vec<NamedVector>, Problem> {
        inputs
            .iter()
            .map(|input| self.vector(query, input))
            .collect()
    }

    fn vector(&self, query: &Query, input: &Input) -> Result<NamedVector, Problem> {
        let id = match input {
            Input::Vector(vector) => return Ok(vector.clone()),
            Input::Id(id) => id,
        };
        let found = match &query.lookup {
            None => self.store.vectors_of(std::slice::from_ref(id)),
            Some(lookup) => {
                let store = self.collections.collection(&lookup.collection)?;
                store.vectors_of(std::slice::from_ref(id))
            }
        };
        let name = query
            .lookup
            .as_ref()
            .and_then(|lookup| lookup.vector.as_ref());
        let name = name.unwrap_or(&query.using);
        let vectors = found.map_err(|error| Problem::of_store(&error))?;
        let vector = vectors
            .into_iter()
            .find_map(|mut vectors| vectors.remove(name));
        vector.ok_or_else(|| Problem::NoPoint { id: id.to_string() })
    }
}

/// Conditions that hold if both do.
fn also(filter: Option<&Conditions>, other: &Value) -> Result<Conditions, Problem> {
    let mut all = vec![other.clone()];
    all.extend(filter.map(Conditions::to_json));
    let both = Conditions::from_json(&json!({"must": all}));
    both.map_err(|error| Problem::of_store(&error))
}
