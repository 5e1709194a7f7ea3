//! Tests of the inside: the slicer against Cedar's own authorizer, on Writ's requests and on Cedar's corpus.

mod corpus;
mod equality;
