// Subset of stout: see ../README.md.
#ifndef MESOS_SUBSET_STOUT_LAMBDA_HPP
#define MESOS_SUBSET_STOUT_LAMBDA_HPP

#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

namespace lambda {

template <typename F>
using function = std::function<F>;

template <typename F>
class CallableOnce;

// A function that may be called once. libmesos calls and destroys it through these virtual
// functions: two of the destructor, then the call.
template <typename R, typename... Args>
class CallableOnce<R(Args...)>
{
public:
  template <typename F, typename = typename std::enable_if<
      !std::is_same<typename std::decay<F>::type, CallableOnce>::value>::type>
  CallableOnce(F&& function)
    : f(new CallableFn<typename std::decay<F>::type>(std::forward<F>(function))) {}

  CallableOnce(CallableOnce&&) = default;
  CallableOnce& operator=(CallableOnce&&) = default;

  R operator()(Args... args) &&
  {
    return std::move(*f)(std::forward<Args>(args)...);
  }

private:
  struct Callable
  {
    virtual ~Callable() = default;
    virtual R operator()(Args&&...) && = 0;
  };

  template <typename F>
  struct CallableFn : Callable
  {
    template <typename G>
    explicit CallableFn(G&& g) : function(std::forward<G>(g)) {}

    R operator()(Args&&... args) && override
    {
      return std::move(function)(std::forward<Args>(args)...);
    }

    F function;
  };

  std::unique_ptr<Callable> f;
};

} // namespace lambda {

#endif
