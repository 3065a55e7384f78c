"""The letters' templates: what they may say, how they are rendered, and whether they can be trusted; pure.

Two rooms need them: consumers/email writes letters by them, deploy/ops changes and previews them. The files in seed/ are the
release's; what the database holds wins (shared/db/letter_templates.py).
"""
