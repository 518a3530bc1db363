"""For people: the form, its answers, and the pages around them.

docs: docs_blueprint
routes: pages_blueprint
Within the room: cards, markdown, pictures, wording
"""
