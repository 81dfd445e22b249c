"""Reading what was said, in the structure of the GenAI conventions; called only where content is captured."""
