# Sends a mail as GitLab sends its own. Arguments: recipient, subject, body.
begin
  Notify.test_email(*ARGV).deliver_now
rescue StandardError => e
  abort "error: #{e.class}: #{e.message.strip}"
end
