"""What is asked of documents that have been read: the sentences and passages that answer, with their places."""
