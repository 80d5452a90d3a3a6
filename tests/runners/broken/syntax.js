export default agent({
  message( {
});
