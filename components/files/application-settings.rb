# What the stack file sets of the settings in GitLab's database. A note beside the administrator says what was set before
# the stack did, so that a setting that leaves the stack file gets that value back. The note is in the database, too: a
# restored backup has the note of its own settings.
NOTE = 'slipway_application_settings'

def apply_application_settings(wanted, administrator)
  current = Gitlab::CurrentSettings.current_application_settings
  note = administrator.custom_attributes.find_by(key: NOTE)
  before = note ? JSON.parse(note.value) : {}
  # A later GitLab may have dropped one.
  given_back = before.except(*wanted.keys).select { |name, _| current.respond_to?(name) }
  kept = wanted.to_h { |name, _| [name, before.fetch(name) { current.public_send(name) }] }

  ActiveRecord::Base.transaction do
    changed = given_back.merge(wanted).reject { |name, value| current.public_send(name) == value }
    Gitlab::CurrentSettings.update!(changed) unless changed.empty?
    if kept.empty?
      note&.destroy!
    elsif note
      note.update!(value: JSON.generate(kept))
    else
      administrator.custom_attributes.create!(key: NOTE, value: JSON.generate(kept))
    end
  end
end

