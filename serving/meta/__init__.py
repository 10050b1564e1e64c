"""The API of Meta's web demo on our sessions: GraphQL and its streamed masks; imports web."""
