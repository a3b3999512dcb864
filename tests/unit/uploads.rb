# GitLab's models, as far as the program that moves uploads uses them: seven uploads, two without what they belonged to.
module ObjectStorage
  module Store
    LOCAL = 1
    REMOTE = 2
  end
end

Upload = Struct.new(:id, :store, :model) do
  def self.where(store:)
    [
      new(1, nil, :project), new(2, 1, :user), new(3, 2, :project), new(4, 2, nil), new(5, 2, :note), new(6, 2, :group),
      new(7, 1, nil)
    ].select { |upload| Array(store).include?(upload.store) }
  end

  def build_uploader
    self
  end

  def migrate!(target)
    raise 'Expected(200) <=> Actual(403 Forbidden)' if id == 6

    puts "#{id} to #{target}"
  end
end

class Array
  alias find_each each
end
